(function_def (function_command (argument_list . (argument) @name))) @function
(macro_def (macro_command (argument_list . (argument) @name))) @function
((source_file (normal_command (identifier) @_command (argument_list . (argument) @name)) @value)
  (#match? @_command "^(?i:add_(library|executable|custom_target))$"))
[(line_comment) (bracket_comment)] @attached

((function_def (function_command (argument_list . (argument) @_name))) @hidden (#match? @_name "^_"))

((normal_command (identifier) @_command) @header
  (#match? @_command "^(?i:cmake_minimum_required|cmake_policy|project|include|find_package)$"))
