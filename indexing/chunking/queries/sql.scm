(statement (create_table (object_reference) @name)) @class
(statement (create_view (object_reference) @name)) @class
(statement (create_materialized_view (object_reference) @name)) @class
(statement (create_type (object_reference) @name)) @class
(statement (create_function (object_reference) @name)) @function
(statement (create_trigger . (keyword_create) (keyword_trigger) . (object_reference) @name)) @function
(statement (create_index column: (identifier) @name)) @value

(statement (set_statement)) @header
