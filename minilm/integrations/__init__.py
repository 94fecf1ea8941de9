"""Other frameworks' faces, a module for each; the framework is imported with it.

Each takes a model by its name, which is loaded once in a process, or a `minilm.SentenceTransformer`. Queries and
documents get the model's prompts for them, where it has such. A reranker has no default: name one.

| framework | class |
|---|---|
| LangChain | `minilm.integrations.langchain.MiniLMEmbeddings`, `MiniLMCrossEncoder` |
| LlamaIndex | `minilm.integrations.llama_index.MiniLMEmbedding`, `MiniLMRerank` |
| Haystack | `minilm.integrations.haystack.MiniLMTextEmbedder`, `MiniLMDocumentEmbedder`, `MiniLMRanker` |
| Chroma | `minilm.integrations.chroma.MiniLMEmbeddingFunction`, `InPlaceOfDefault` |
| LanceDB | `minilm.integrations.lancedb.MiniLMEmbeddings`, in the registry as ``"minilm"``; `MiniLMReranker` |
| DuckDB | `minilm.integrations.duckdb.register`, a function of SQL |
| BERTopic | `minilm.integrations.bertopic.MiniLMBackend` |
| KeyBERT | `minilm.integrations.keybert.MiniLMBackend` |
| scikit-learn | `minilm.integrations.sklearn.TextEmbedder` |
"""
