(class_interface . (identifier) @name) @class
(class_implementation . (identifier) @name) @class
(protocol_declaration . (identifier) @name) @class
(method_definition . (method_type) . (identifier) @name) @function
(method_declaration . (method_type) . (identifier) @name) @function

((class_implementation . (identifier) @_name) @test (#match? @_name "Tests?$"))
((method_definition . (method_type) . (identifier) @_name) @test (#match? @_name "^test[A-Z_]"))

(module_import) @header
