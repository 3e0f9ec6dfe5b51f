(config_file (body (block . (identifier) @name . (block_start)) @value))
(config_file (body
  (block . (identifier) @owner . (string_lit (template_literal) @name) . (block_start)) @value))
(config_file (body
  (block (string_lit (template_literal) @owner) . (string_lit (template_literal) @name) . (block_start)) @value))
((config_file (body
  (block . (identifier) @owner . (string_lit (template_literal) @owner) . (string_lit (template_literal) @name))
    @value))
  (#any-eq? @owner "data"))
