(module_definition (module_binding (module_name) @name body: (_))) @module
(module_type_definition (module_type_name) @name) @class
(class_binding (class_name) @name) @class
(type_binding name: (_) @name) @class
(exception_definition (constructor_declaration (constructor_name) @name)) @class
(method_definition (method_name) @name) @function
(external (value_name) @name) @function
(value_specification (value_name) @name) @function
(compilation_unit (value_definition (let_binding pattern: (value_name) @name) @value))
(structure (value_definition (let_binding pattern: (value_name) @name) @value))
(let_binding pattern: (value_name) @name (parameter)) @function
(let_binding pattern: (value_name) @name body: [(fun_expression) (function_expression)]) @function
[(value_definition) (type_definition) (class_definition)] @definition

(open_module) @header
