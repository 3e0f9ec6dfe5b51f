(module_definition name: (_) @name) @module
(struct_definition (type_head [
  (identifier) @name
  (binary_expression . [(identifier) @name (parametrized_type_expression . (_) @name)])
  (parametrized_type_expression . (_) @name)
])) @class
(abstract_definition (type_head . (_) @name)) @class
(function_definition (signature [
  (identifier) @name
  (call_expression . (_) @name)
  (typed_expression . (call_expression . (_) @name))
  (where_expression . [(call_expression . (_) @name) (typed_expression . (call_expression . (_) @name))])
])) @function
(macro_definition (signature (call_expression . (_) @name))) @function
(assignment . (call_expression . (_) @name)) @function
((string_literal) @attached
  . [(function_definition) (struct_definition) (abstract_definition) (macro_definition) (assignment)])

((macrocall_expression
  (macro_identifier) @_macro (macro_argument_list . (string_literal) @name)) @test (#eq? @_macro "@testset"))

(module_definition) @exported
(export_statement (identifier) @exported.name)

[(using_statement) (import_statement) (export_statement)] @header
