(class_declaration name: (_) @name) @class
[(function_declaration name: (_) @name) (generator_function_declaration name: (_) @name)] @function
(method_definition name: (_) @name) @function
(variable_declarator
  name: (_) @name value: [(arrow_function) (function_expression) (generator_function)]) @function
(variable_declarator name: (_) @name value: (class)) @class
(pair key: (_) @name value: [(arrow_function) (function_expression) (generator_function)]) @function
(assignment_expression
  left: (_) @name right: [(arrow_function) (function_expression) (generator_function)]) @function
(assignment_expression left: (_) @name right: (class)) @class
(export_statement) @definition
(lexical_declaration (variable_declarator value: [(arrow_function) (function_expression)])) @definition
(decorator) @attached

((call_expression
  function: [(identifier) @_call (member_expression object: (identifier) @_call)]
  arguments: (arguments . [(string) (template_string)] @name . [(arrow_function) (function_expression)])) @test
  (#any-of? @_call "describe" "it" "test" "suite"))

(export_statement [(class_declaration) (function_declaration) (generator_function_declaration)] @exported)
(export_statement (lexical_declaration (variable_declarator) @exported))
(export_statement value: (_) @exported)
(export_specifier name: (_) @exported.name)
(assignment_expression left: (_) @_left (#match? @_left "^(module\\.)?exports\\b|\\.prototype\\.")) @exported
(assignment_expression
  left: (_) @_left (#match? @_left "^(module\\.)?exports\\b")
  right: [
    (identifier) @exported.name
    (object [(shorthand_property_identifier) @exported.name (pair value: (identifier) @exported.name)])
  ])
(class_body) @public
(object) @public
(method_definition name: (private_property_identifier)) @hidden

(import_statement) @header
(program . (comment)* . (expression_statement (string)) @header)
(program
  [(lexical_declaration (variable_declarator value: (call_expression function: (identifier) @_call)))
   (variable_declaration (variable_declarator value: (call_expression function: (identifier) @_call)))
   (lexical_declaration
     (variable_declarator value: (member_expression object: (call_expression function: (identifier) @_call))))
   (variable_declaration
     (variable_declarator value: (member_expression object: (call_expression function: (identifier) @_call))))
  ] @header
  (#eq? @_call "require"))
