"""The review app: `POST /v1/moderations` as OpenAI's, with the evidence for every decision."""
