((rule (targets) @name) @function (#not-match? @name "^\\.PHONY"))
(define_directive name: (_) @name) @function

(include_directive) @header
