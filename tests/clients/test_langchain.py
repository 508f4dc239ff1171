"""langchain's standard tests of a chat model, of langchain-openai as it is, against our server."""
import os

from langchain_openai import ChatOpenAI
from langchain_tests.integration_tests import ChatModelIntegrationTests


class TestServed(ChatModelIntegrationTests):
    @property
    def chat_model_class(self):
        return ChatOpenAI

    @property
    def chat_model_params(self):
        return {"model": "served", "base_url": os.environ["TEST_API_BASE_URL"], "api_key": "none", "max_tokens": 64,
                "stream_usage": True}

    # Tools and structured answers are not there yet (left_out.txt).
    @property
    def has_tool_calling(self):
        return False

    @property
    def has_structured_output(self):
        return False
