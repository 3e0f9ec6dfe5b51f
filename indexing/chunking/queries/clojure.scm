((list_lit . (sym_lit) @_def . (sym_lit name: (_) @name)) @function
  (#any-of? @_def "defn" "defn-" "defmacro" "defmulti" "defmethod"))
((list_lit . (sym_lit) @_def . (sym_lit name: (_) @name)) @class
  (#any-of? @_def "defprotocol" "defrecord" "deftype" "definterface"))
((list_lit . (sym_lit) @_def . (sym_lit name: (_) @name)) @value (#any-of? @_def "def" "defonce"))
((list_lit . (sym_lit) @_def . (sym_lit name: (_) @name)) @test (#eq? @_def "deftest"))
(comment) @attached

((list_lit . (sym_lit) @_def) @hidden (#eq? @_def "defn-"))
((list_lit . (sym_lit) . (sym_lit (meta_lit) @_meta)) @hidden (#eq? @_meta "^:private"))

((list_lit . (sym_lit) @_ns) @header (#eq? @_ns "ns"))
