(function_declaration name: (_) @name) @function
(method_declaration
  receiver: (parameter_list
    (parameter_declaration
      type: [
        (type_identifier) @owner
        (generic_type type: (_) @owner)
        (pointer_type [(type_identifier) @owner (generic_type type: (_) @owner)])
      ]))
  name: (_) @name) @function
(type_spec name: (_) @name) @class
(type_declaration) @definition

((function_declaration name: (_) @_name parameters: (_) @_with) @test
  (#match? @_name "^(Test|Benchmark|Fuzz)") (#match? @_with "\\*testing\\."))
((function_declaration name: (_) @_name parameters: (parameter_list . ")")) @test (#match? @_name "^Example"))

(function_declaration name: (_) @_name (#match? @_name "^[a-z_]")) @hidden
(method_declaration name: (_) @_name (#match? @_name "^[a-z_]")) @hidden
(type_spec name: (_) @_name (#match? @_name "^[a-z_]")) @hidden

[(package_clause) (import_declaration)] @header
