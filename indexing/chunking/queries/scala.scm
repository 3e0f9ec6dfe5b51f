(class_definition name: (_) @name) @class
(trait_definition name: (_) @name) @class
(object_definition name: (_) @name) @class
(enum_definition name: (_) @name) @class
(type_definition name: (_) @name) @class
(package_object name: (_) @name) @module
(function_definition name: (_) @name) @function
(function_declaration name: (_) @name) @function

((class_definition name: (_) @_name) @test (#match? @_name "(Test|Tests|Suite|Spec)$"))
((call_expression
  function: (call_expression function: (identifier) @_call arguments: (arguments . (string) @name))) @test
  (#eq? @_call "test"))

(_ (modifiers (access_modifier))) @hidden

[(package_clause !body) (import_declaration)] @header
