(fun_decl clause: (function_clause name: (_) @name)) @function
(record_decl name: (_) @name) @class
(type_alias name: (type_name name: (_) @name)) @class
(opaque name: (type_name name: (_) @name)) @class
(spec) @attached

((fun_decl clause: (function_clause name: (_) @_name)) @test (#match? @_name "_test_?$"))

(export_attribute (fa fun: (_) @exported.name))
((compile_options_attribute) @_options (#match? @_options "export_all")) @public
[(record_decl) (type_alias) (opaque)] @exported

[(module_attribute) (behaviour_attribute) (export_attribute) (export_type_attribute) (import_attribute)
 (pp_include) (pp_include_lib)] @header
