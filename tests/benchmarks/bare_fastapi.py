"""What the webhook endpoint is measured against: FastAPI that only reads the body, on the same
server with the same settings.
"""

from __future__ import annotations

import argparse

import uvicorn
from fastapi import FastAPI, Request, Response

app = FastAPI()


@app.post("/hooks/{source:path}")
async def hook(source: str, request: Request) -> Response:  # noqa: ARG001 - a path parameter, as the webhook endpoint has one
    return Response(str(len(await request.body())))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    uvicorn.run(
        app,
        port=parser.parse_args().port,
        loop="uvloop",
        http="httptools",
        ws="none",
        access_log=False,
        log_level="warning",
    )
