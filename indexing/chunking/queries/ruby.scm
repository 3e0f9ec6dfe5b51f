(module name: (_) @name) @module
(class name: (_) @name) @class
(method name: (_) @name) @function
(singleton_method name: (_) @name) @function

((class name: (_) @_name) @test (#match? @_name "Test$|^Test"))
((method name: (_) @_name) @test (#match? @_name "^test_"))
((call
  method: (identifier) @_call arguments: (argument_list . [(string) (constant) (scope_resolution)] @name)
  block: (_)) @test
  (#any-of? @_call "describe" "context" "it" "test" "specify"))

((identifier) @private (#any-of? @private "private" "protected"))
((identifier) @public (#eq? @public "public"))
((call method: (identifier) @_call arguments: (argument_list (method) @hidden))
  (#any-of? @_call "private" "protected"))

((call method: (identifier) @_call) @header (#match? @_call "^(require|require_relative|autoload)$"))
