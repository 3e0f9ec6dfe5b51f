(class_declaration name: (_) @name) @class
(protocol_declaration name: (_) @name) @class
(typealias_declaration name: (_) @name) @class
(function_declaration name: (simple_identifier) @name) @function
(protocol_function_declaration name: (simple_identifier) @name) @function
(init_declaration "init" @name) @function
(deinit_declaration "deinit" @name) @function

((class_declaration (inheritance_specifier) @_base) @test (#eq? @_base "XCTestCase"))
((function_declaration name: (_) @_name) @test (#match? @_name "^test[A-Z_]"))
((function_declaration (modifiers) @_modifiers) @test (#match? @_modifiers "@Test\\b"))

((_ (modifiers (visibility_modifier) @_access)) @exported (#any-of? @_access "public" "open"))
(class_declaration "extension") @exported
(protocol_body) @public

(import_declaration) @header
