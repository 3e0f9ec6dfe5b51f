(abstract_class_declaration name: (_) @name) @class
(interface_declaration name: (_) @name) @class
(enum_declaration name: (_) @name) @class
(type_alias_declaration name: (_) @name) @class
(internal_module name: (_) @name) @module
(module name: (_) @name) @module
(function_signature name: (_) @name) @function
(public_field_definition
  name: (_) @name value: [(arrow_function) (function_expression) (generator_function)]) @function

(export_statement
  [(abstract_class_declaration) (interface_declaration) (enum_declaration) (type_alias_declaration)
   (function_signature) (internal_module)] @exported)
((_ (accessibility_modifier) @_access) @hidden (#any-of? @_access "private" "protected"))
(public_field_definition name: (private_property_identifier)) @hidden
