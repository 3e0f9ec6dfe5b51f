(function_definition name: (_) @name) @function

((function_definition name: (_) @_name) @test (#match? @_name "^test_"))
((function_definition name: (_) @_name) @hidden (#match? @_name "^_"))

((program (command name: (_) @_command) @header) (#any-of? @_command "set" "shopt" "source" "." "load"))
