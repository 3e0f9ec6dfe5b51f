"""PLAID: late-interaction search over coded token vectors."""
