"""The official Python client against the gateway at the address in the first argument."""

import sys

import openai

client = openai.OpenAI(base_url=sys.argv[1] + "/v1", api_key="sk-none")
messages = [{"role": "user", "content": "What is 2+2?"}]
for model in ["little", "elenchus/single/little", "elenchus/self-consistency@3/little"]:
    whole = client.chat.completions.create(model=model, messages=messages)
    assert whole.choices[0].message.content == "Answer: 4", whole
    text, finish, usage = "", None, None
    stream = client.chat.completions.create(
        model=model, messages=messages, stream=True, stream_options={"include_usage": True}
    )
    for chunk in stream:
        for choice in chunk.choices:
            text += choice.delta.content or ""
            finish = choice.finish_reason or finish
        usage = chunk.usage or usage
    assert (text, finish) == ("Answer: 4", "stop"), (model, text, finish)
    if model != "little":
        assert "/" + whole.model_extra["elenchus"]["recipe"] in model, whole
        assert usage.total_tokens > 0
for model in ["little", "elenchus/single/little", "elenchus/self-consistency@3/little"]:
    whole = client.responses.create(model=model, input="What is 2+2?")
    assert (whole.output_text, whole.status) == ("Answer: 4", "completed"), whole
    text, last = "", None
    for event in client.responses.create(model=model, input="And 3+1?", stream=True, previous_response_id=whole.id):
        text += event.delta if event.type == "response.output_text.delta" else ""
        last = event
    assert (text, last.type) == ("Answer: 4", "response.completed"), (model, text, last)
    with client.responses.stream(model=model, input="Once more", store=False) as stream:
        assert stream.get_final_response().output_text == "Answer: 4"
assert "little" in [model.id for model in client.models.list()]
try:
    client.chat.completions.create(model="elenchus/nothing/little", messages=messages)
    raise AssertionError("an unknown recipe is refused")
except openai.NotFoundError as error:
    assert error.code == "recipe_not_found", error
print("ok")
