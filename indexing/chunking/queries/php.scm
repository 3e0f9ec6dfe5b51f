(class_declaration name: (_) @name) @class
(interface_declaration name: (_) @name) @class
(trait_declaration name: (_) @name) @class
(enum_declaration name: (_) @name) @class
(method_declaration name: (_) @name) @function
(function_definition name: (_) @name) @function

((class_declaration name: (_) @_name) @test (#match? @_name "Test(Case)?$"))
((method_declaration name: (_) @_name) @test (#match? @_name "^test[A-Z_]"))

((method_declaration (visibility_modifier) @_access) @hidden (#any-of? @_access "private" "protected"))

[(php_tag) (namespace_definition !body) (namespace_use_declaration) (declare_statement)] @header
