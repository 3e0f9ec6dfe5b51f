(class_definition name: (_) @name) @class
(function_definition name: (_) @name) @function
(decorated_definition) @definition

((class_definition name: (_) @_name) @test (#match? @_name "^Test[A-Z]|TestCase$"))
((function_definition name: (_) @_name) @test (#match? @_name "^test_"))

(class_definition name: (_) @_name (#match? @_name "^_(?!_.*__$)")) @hidden
(function_definition name: (_) @_name (#match? @_name "^_(?!_.*__$)")) @hidden

(module . (comment)* . (string) @docs)
[(import_statement) (import_from_statement) (future_import_statement)] @header
(module (if_statement consequence: (block . [(import_statement) (import_from_statement)])) @header)
(module (try_statement body: (block . [(import_statement) (import_from_statement)])) @header)
