(function_definition declarator: (_) @name) @function
(struct_specifier name: (_) @name body: (_)) @class
(union_specifier name: (_) @name body: (_)) @class
(enum_specifier name: (_) @name body: (_)) @class
(type_definition declarator: (_) @name) @class
(preproc_function_def name: (_) @name) @function

((translation_unit (function_definition (storage_class_specifier) @_storage) @hidden) (#eq? @_storage "static"))
((preproc_ifdef (function_definition (storage_class_specifier) @_storage) @hidden) (#eq? @_storage "static"))
((preproc_if (function_definition (storage_class_specifier) @_storage) @hidden) (#eq? @_storage "static"))

(preproc_include) @header
