((call target: (identifier) @_def (arguments . (_) @name) (do_block)) @module
  (#any-of? @_def "defmodule" "defprotocol" "defimpl"))
((call target: (identifier) @_def (arguments . [
  (identifier) @name
  (call target: (_) @name)
  (binary_operator left: [(identifier) @name (call target: (_) @name)])
])) @function
  (#any-of? @_def "def" "defp" "defmacro" "defmacrop" "defguard" "defguardp" "defdelegate" "defn"))
((unary_operator operand: (call target: (identifier) @_attribute)) @attached
  (#any-of? @_attribute "doc" "spec" "impl" "deprecated" "since" "tag" "typedoc"))

((call target: (identifier) @_def (arguments . (string) @name) (do_block)) @test
  (#any-of? @_def "test" "describe" "property"))

((call target: (identifier) @_def) @hidden (#any-of? @_def "defp" "defmacrop" "defguardp"))

((call target: (identifier) @_call) @header (#any-of? @_call "alias" "import" "require" "use"))
