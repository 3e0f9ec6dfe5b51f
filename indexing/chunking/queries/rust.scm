(function_item name: (_) @name) @function
(function_signature_item name: (_) @name) @function
(macro_definition name: (_) @name) @function
(struct_item name: (_) @name) @class
(enum_item name: (_) @name) @class
(union_item name: (_) @name) @class
(trait_item name: (_) @name) @class
(impl_item type: (_) @name) @class
(mod_item name: (_) @name body: (_)) @module
[(attribute_item) (inner_attribute_item)] @attached

((attribute_item) @_attribute . [(attribute_item) (line_comment)]* . [(function_item) (mod_item)] @test
  (#match? @_attribute "^#\\[(\\w+::)*(test|rstest|bench)\\b|^#\\[cfg\\((all\\()?test\\b"))

((_ (visibility_modifier) @_visibility) @exported (#eq? @_visibility "pub"))
(impl_item) @exported
(impl_item trait: (_) body: (declaration_list) @public)
(trait_item body: (declaration_list) @public)
((attribute_item) @_attribute . (macro_definition) @exported (#match? @_attribute "macro_export"))

[(use_declaration) (extern_crate_declaration) (inner_attribute_item) (mod_item !body)] @header
