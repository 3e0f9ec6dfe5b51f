"""Dense search through FAISS."""
