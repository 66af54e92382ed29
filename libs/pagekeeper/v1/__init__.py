"""The API as generated code: `make proto` writes every module here from `proto/`."""
