import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { embedJson, html, table } from '../../src/report/html.ts';

const markup = suite('HTML');

markup('escapes what is put in, and nothing twice', () => {
  const inner = html`<b>${'<&>'}</b>`;
  assert.is(html`<p title="${`"'`}">${inner}${7}</p>`.text, '<p title="&quot;&#39;"><b>&lt;&amp;&gt;</b>7</p>');
  assert.is(html`${[inner, inner]}`.text, inner.text + inner.text);
});

markup('embeds JSON that ends no script, and reads back the same', () => {
  const value = { text: '</script><!-- <script> & \u2028\u2029', list: [1, null] };
  const { text } = embedJson(value);
  assert.not.match(text, /[<>&\u2028\u2029]/);
  assert.equal(JSON.parse(text), value);
});

markup('embeds figures that are none as null', () => {
  assert.is(embedJson([NaN, Infinity, 1]).text, '[null,null,1]');
});

markup('makes a table whose cells are escaped and whose heads say what they head', () => {
  const { text } = table('<caption>', ['a', 'b'], [['<x>', html`<i>1</i>`]]);
  assert.match(text, '<caption>&lt;caption&gt;</caption>');
  assert.match(text, '<th scope="col">b</th>');
  assert.match(text, '<th scope="row">&lt;x&gt;</th><td><i>1</i></td>');
});

markup.run();
