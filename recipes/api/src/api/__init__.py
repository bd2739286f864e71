"""Greets whoever asks."""

from fastapi import FastAPI

app = FastAPI()


@app.get("/hello/{name}")
async def hello(name: str) -> dict[str, str]:
    return {"hello": name}


@app.get("/health")
async def health() -> dict[str, str]:
    return {"status": "ok"}
