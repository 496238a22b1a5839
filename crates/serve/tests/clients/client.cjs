// The official JavaScript client against the gateway at the address in the first argument.
const OpenAI = require("openai").default;
const assert = require("node:assert");

async function main() {
  const client = new OpenAI({ baseURL: `${process.argv[2]}/v1`, apiKey: "sk-none" });
  const messages = [{ role: "user", content: "What is 2+2?" }];
  for (const model of ["little", "elenchus/single/little", "elenchus/self-consistency@3/little"]) {
    const whole = await client.chat.completions.create({ model, messages });
    assert.equal(whole.choices[0].message.content, "Answer: 4");
    let text = "";
    let finish = null;
    for await (const chunk of await client.chat.completions.create({ model, messages, stream: true })) {
      text += chunk.choices[0]?.delta?.content ?? "";
      finish = chunk.choices[0]?.finish_reason ?? finish;
    }
    assert.deepEqual([text, finish], ["Answer: 4", "stop"]);
  }
  const whole = await client.responses.create({ model: "little", input: "What is 2+2?" });
  assert.equal(whole.output_text, "Answer: 4");
  let said = "";
  const stream = await client.responses.create({
    model: "elenchus/self-consistency@3/little", input: "Again?", previous_response_id: whole.id, stream: true,
  });
  for await (const event of stream) {
    said += event.type === "response.output_text.delta" ? event.delta : "";
  }
  assert.equal(said, "Answer: 4");
  await assert.rejects(
    client.chat.completions.create({ model: "elenchus/nothing/little", messages }),
    (error) => error.status === 404 && error.code === "recipe_not_found",
  );
  console.log("ok");
}

main();
