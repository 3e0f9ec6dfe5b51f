(class_definition name: (_) @name) @class
(mixin_declaration (mixin) . (identifier) @name) @class
(enum_declaration name: (_) @name) @class
(extension_declaration name: (_) @name) @class
(type_alias . (type_identifier) @name) @class
(declaration (function_signature name: (_) @name)) @function
(declaration (constructor_signature name: (_) @name)) @function
((function_signature name: (_) @name) @attached . (function_body) @function)
((method_signature (_ name: (_) @name)) @attached . (function_body) @function)
((method_signature (factory_constructor_signature (_) . (identifier) @name)) @attached . (function_body) @function)
(annotation) @attached

((class_definition name: (_) @_name) @hidden (#match? @_name "^_"))
((function_signature name: (_) @_name) . (function_body) @hidden (#match? @_name "^_"))
((method_signature (_ name: (_) @_name)) . (function_body) @hidden (#match? @_name "^_"))

[(library_name) (import_or_export) (part_directive) (part_of_directive)] @header
