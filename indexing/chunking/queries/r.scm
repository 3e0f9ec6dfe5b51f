(binary_operator lhs: (_) @name rhs: (function_definition)) @function
((call function: (identifier) @_call arguments: (arguments . argument: (argument value: (string) @name))) @class
  (#match? @_call "^(setClass|setRefClass|R6Class)$"))
((call function: (identifier) @_call arguments: (arguments . argument: (argument value: (string) @name))) @function
  (#match? @_call "^(setMethod|setGeneric|setValidity)$"))
((call function: (identifier) @_call arguments: (arguments . argument: (argument value: (string) @name))) @test
  (#any-of? @_call "test_that" "describe" "it"))

((binary_operator lhs: (_) @_name rhs: (function_definition)) @hidden (#match? @_name "^\\."))

((program (call function: (identifier) @_call) @header) (#any-of? @_call "library" "require" "source"))
