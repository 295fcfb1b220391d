import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { EngineError } from '../../src/errors.ts';
import { ChatTemplate } from '../../src/text/chat-template.ts';
import { Tokenizer } from '../../src/text/tokenizer.ts';
import { readTokenizer, TALES, TEMPLATES } from '../fake/tokenizers.ts';

const chatTemplate = suite('ChatTemplate');
const tokens = { bosText: '<s>', eosText: '</s>' };
const at = () => new Date(2024, 6, 5, 9, 3);

function codeOf(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    return error instanceof EngineError ? error.code : String(error);
  }
  return 'none';
}

chatTemplate('renders turns with the special tokens and the opening of the answer', () => {
  const source =
    '{{ bos_token }}{% for m in messages %}[{{ m.role }}] {{ m.content }}{{ eos_token }}{% endfor %}' +
    '{% if add_generation_prompt %}[assistant]{% endif %}';
  const template = new ChatTemplate(source, tokens);
  const messages = [{ role: 'user', content: 'Hi {{ not code }}' }];
  assert.is(template.render(messages), '<s>[user] Hi {{ not code }}</s>[assistant]');
  assert.is(template.render(messages, false), '<s>[user] Hi {{ not code }}</s>');
});

chatTemplate('gives templates the date in English, and ranges', () => {
  const render = (source: string) => new ChatTemplate(source, tokens, at).render([]);
  assert.is(render("{{ strftime_now('%d %b %Y, %A %H:%M %%') }}"), '05 Jul 2024, Friday 09:03 %');
  assert.is(render('{{ range(3) | list }} {{ range(4, 0, -2) | list }}'), '[0, 1, 2] [4, 2]');
});

chatTemplate('turns a refusal of the template into INVALID_OPTION with its words', () => {
  const template = new ChatTemplate("{{ raise_exception('roles must alternate') }}", tokens);
  assert.is(codeOf(() => template.render([])), 'INVALID_OPTION');
  assert.throws(() => template.render([]), /roles must alternate/);
});

chatTemplate('turns templates that are broken, fail or run on into MODEL_FORMAT', () => {
  assert.is(codeOf(() => new ChatTemplate('{% for %}', tokens)), 'MODEL_FORMAT');
  assert.is(codeOf(() => new ChatTemplate('{{ messages | nonsense }}', tokens).render([])), 'MODEL_FORMAT');
  assert.is(codeOf(() => new ChatTemplate('{{ missing() }}', tokens).render([])), 'MODEL_FORMAT');
  for (const numbers of ['1000000000', '0, 5, 0']) {
    const template = new ChatTemplate(`{% for i in range(${numbers}) %}x{% endfor %}`, tokens);
    assert.is(codeOf(() => template.render([])), 'MODEL_FORMAT');
  }
});

chatTemplate('writes the begin token of tales, so that the text is encoded without a second', () => {
  const source = readTokenizer(TALES);
  const tokenizer = new Tokenizer(source);
  const template = new ChatTemplate(String(source.tokenizerConfig['chat_template']), tokenizer);
  const text = template.render([{ role: 'user', content: '  Once upon a time ' }]);
  assert.is(text, '<|endoftext|>Once upon a time');
  assert.equal(tokenizer.encode(text, false), tokenizer.encode('Once upon a time'));
});

// Six ask for tools or a clock that a plain conversation has not; one uses integer keys, which the library lacks.
const NOT_PLAIN = new Set([
  'ByteDance-Seed-OSS.jinja',
  'CohereForAI-c4ai-command-r-plus-tool_use.jinja',
  'NousResearch-Hermes-2-Pro-Llama-3-8B-tool_use.jinja',
  'NousResearch-Hermes-3-Llama-3.1-8B-tool_use.jinja',
  'fireworks-ai-llama-3-firefunction-v2.jinja',
  'meetkai-functionary-medium-v3.1.jinja',
  'unsloth-Apriel-1.5.jinja',
]);

const templates = TEMPLATES;
if (templates) {
  chatTemplate('renders a plain conversation in every real template made for one', () => {
    const messages = [
      { role: 'user', content: 'Which bird is that?' },
      { role: 'assistant', content: 'A heron.' },
      { role: 'user', content: 'And the second question?' },
    ];
    const files = readdirSync(templates).filter((file) => file.endsWith('.jinja'));
    for (const file of files) {
      const render = () => new ChatTemplate(readFileSync(join(templates, file), 'utf8'), tokens, at).render(messages);
      if (NOT_PLAIN.has(file)) {
        assert.throws(render, (error: unknown) => error instanceof EngineError, file);
        continue;
      }
      const text = render();
      assert.match(text, 'And the second question?', file);
      assert.match(text, 'A heron.', file);
    }
    assert.ok(files.length > 40);
  });
}

chatTemplate.run();
