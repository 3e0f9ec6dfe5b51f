"""flatcoat inside LangChain, LlamaIndex and Haystack: one module per framework, imported only when used."""
