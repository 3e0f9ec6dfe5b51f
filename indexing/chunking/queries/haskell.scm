(declarations [(data_type name: (_) @name) (newtype name: (_) @name) (type_synomym name: (_) @name)] @class)
(declarations (class name: (_) @name) @class)
(declarations (instance name: (_) @owner (type_patterns . (_) @name)) @class)
(function name: (_) @name) @function
(declarations (bind name: (_) @name) @function)
(signature) @attached
(haddock) @attached

(haskell . [(comment) (haddock) (pragma)]* . [(imports) (declarations)] @public)
(header !exports) @public
(export variable: (_) @exported.name)
(export type: (_) @exported.name)
(declarations (instance) @exported)
[(class_declarations) (instance_declarations)] @public

[(header) (import) (pragma)] @header
