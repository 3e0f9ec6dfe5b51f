(package_statement name: (_) @name (block)) @module
(subroutine_declaration_statement name: (_) @name) @function
(method_declaration_statement name: (_) @name) @function
(class_statement name: (_) @name (block)) @class

((expression_statement (ambiguous_function_call_expression
  function: (_) @_call arguments: [(string_literal) (interpolated_string_literal)] @name)) @test
  (#eq? @_call "subtest"))
((subroutine_declaration_statement name: (_) @_name) @test (#match? @_name "^test_"))

((subroutine_declaration_statement name: (_) @_name) @hidden (#match? @_name "^_"))

[(package_statement !name) (use_statement) (require_expression)] @header
(source_file (package_statement (package) !version) @header)
