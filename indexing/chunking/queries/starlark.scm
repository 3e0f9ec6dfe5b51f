(function_definition name: (_) @name) @function
((module (expression_statement (call
  arguments: (argument_list (keyword_argument name: (identifier) @_key value: (string) @name)))) @value)
  (#eq? @_key "name"))

(function_definition name: (_) @_name (#match? @_name "^_")) @hidden

((module (expression_statement (call function: (identifier) @_call)) @header)
  (#any-of? @_call "load" "package" "workspace"))
