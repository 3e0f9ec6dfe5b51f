(class_declaration name: (_) @name) @class
(interface_declaration name: (_) @name) @class
(enum_declaration name: (_) @name) @class
(record_declaration name: (_) @name) @class
(annotation_type_declaration name: (_) @name) @class
(method_declaration name: (_) @name) @function
(constructor_declaration name: (_) @name) @function

((method_declaration (modifiers) @_modifiers) @test
  (#match? @_modifiers "@(Test|ParameterizedTest|RepeatedTest|TestFactory)\\b"))
((class_declaration name: (_) @_name) @test (#match? @_name "(Test|Tests|TestCase)$"))

((_ (modifiers) @_modifiers) @exported (#match? @_modifiers "\\bpublic\\b"))
[(interface_body) (annotation_type_body)] @public

[(package_declaration) (import_declaration)] @header
