(Decl (VarDecl
  variable_type_function: (_) @name
  (ErrorUnionExpr (SuffixExpr [(ContainerDecl) (ErrorSetDecl)])))) @class
(Decl (FnProto function: (_) @name)) @function
(TestDecl [(STRINGLITERALSINGLE) (IDENTIFIER)] @name) @test
(doc_comment) @attached

("pub" . (Decl) @exported)

((source_file (Decl (VarDecl (ErrorUnionExpr (SuffixExpr . (BUILTINIDENTIFIER) @_call)))) @header)
  (#eq? @_call "@import"))
(container_doc_comment) @docs
