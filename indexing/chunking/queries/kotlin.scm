(class_declaration (type_identifier) @name) @class
(object_declaration (type_identifier) @name) @class
(type_alias . (type_identifier) @name) @class
(function_declaration (simple_identifier) @name) @function
(function_declaration
  receiver: (receiver_type (user_type (type_identifier) @owner)) (simple_identifier) @name) @function

((function_declaration (modifiers) @_modifiers) @test (#match? @_modifiers "@(Test|ParameterizedTest)\\b"))
((class_declaration (type_identifier) @_name) @test (#match? @_name "Tests?$"))

((_ (modifiers (visibility_modifier) @_access)) @hidden (#not-eq? @_access "public"))

[(package_header) (import_header)] @header
