(class_declaration name: (_) @name) @class
(interface_declaration name: (_) @name) @class
(struct_declaration name: (_) @name) @class
(record_declaration name: (_) @name) @class
(enum_declaration name: (_) @name) @class
(method_declaration name: (_) @name) @function
(constructor_declaration name: (_) @name) @function
(property_declaration name: (_) @name) @function
(local_function_statement name: (_) @name) @function
(namespace_declaration body: (declaration_list)) @definition

((method_declaration (attribute_list) @_attributes) @test
  (#match? @_attributes "\\[(Fact|Theory|Test|TestMethod|TestCase)\\b"))

((_ (modifier) @_modifier) @exported (#eq? @_modifier "public"))
(interface_declaration body: (declaration_list) @public)

[(using_directive) (file_scoped_namespace_declaration)] @header
