(function_declaration name: (_) @name) @function
(assignment_statement (variable_list . name: (_) @name) (expression_list . value: (function_definition))) @function
(field name: (_) @name value: (function_definition)) @function

((function_call name: (identifier) @_call arguments: (arguments . (string) @name . (function_definition))) @test
  (#any-of? @_call "describe" "it" "context" "test"))

(_ local_declaration: (function_declaration) @hidden)
((function_declaration name: (_) @_name) @hidden (#match? @_name "(^|[.:])_"))

((chunk (variable_declaration
  (assignment_statement (expression_list . value: (function_call name: (_) @_call)))) @header)
  (#eq? @_call "require"))
((chunk (variable_declaration
  (assignment_statement (expression_list . value: (dot_index_expression
    table: (function_call name: (_) @_call))))) @header)
  (#eq? @_call "require"))
((chunk (function_call name: (_) @_call) @header) (#eq? @_call "require"))
