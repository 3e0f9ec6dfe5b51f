((script_element (raw_text) @injection) (#set! language "typescript"))
