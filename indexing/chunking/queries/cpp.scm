(class_specifier name: (_) @name body: (_)) @class
(template_declaration) @definition
(access_specifier) @attached

((function_definition declarator: (function_declarator declarator: (_) @_call parameters: (_) @name)) @test
  (#match? @_call "^TEST(_F|_P)?$"))
((expression_statement (call_expression function: (_) @_call arguments: (_) @name)) @test
  (#any-of? @_call "TEST_CASE" "SCENARIO"))

((declaration_list (function_definition (storage_class_specifier) @_storage) @hidden)
  (#eq? @_storage "static"))
(namespace_definition !name body: (declaration_list) @private)
(class_specifier body: (field_declaration_list) @private)
(struct_specifier body: (field_declaration_list) @public)
((access_specifier) @private (#match? @private "^(private|protected)"))
((access_specifier) @public (#match? @public "^public"))

[(using_declaration) (namespace_alias_definition)] @header
