import { type Bill, combine, estimate, money, type Range, type Speedup } from '../calculator.ts';
import { percent, range, times } from '../format.ts';

const ALL = 'all';

/** Keeps the choices to what was measured together, and the answer to what is typed. */
export function wireCalculator(form: HTMLFormElement, speedups: readonly Speedup[]): void {
  const field = <T extends HTMLElement>(id: string) => form.querySelector<T>(`#${id}`)!;
  const setting = field<HTMLSelectElement>('setting');
  const baseline = field<HTMLSelectElement>('baseline');
  const workload = field<HTMLSelectElement>('workload');
  const output = field<HTMLOutputElement>('estimate');
  const value = (id: string) => Math.max(0, field<HTMLInputElement>(id).valueAsNumber);
  const kind = () => form.querySelector<HTMLInputElement>('input[name=kind]:checked')!.value;

  const update = () => {
    const inSetting = speedups.filter((one) => one.setting === setting.value);
    offer(
      baseline,
      inSetting.map(({ contender }) => contender),
      'static',
    );
    const against = inSetting.filter(({ contender }) => contender === baseline.value);
    offer(workload, [ALL, ...against.map((one) => one.workload)], ALL, (name) => (name === ALL ? 'all of them' : name));
    const chosen = against.filter((one) => workload.value === ALL || one.workload === workload.value);
    const sum = kind() === 'sum';
    for (const part of form.querySelectorAll<HTMLElement>('[data-for]'))
      part.hidden = (part.dataset['for'] === 'sum') !== sum;
    const bill: Bill = sum
      ? { kind: 'sum', monthly: value('monthly') }
      : { kind: 'instances', instances: Math.round(value('instances')), monthlyPrice: value('price') };
    const given = bill.kind === 'sum' ? bill.monthly : bill.instances * bill.monthlyPrice;
    const answer = Number.isFinite(given)
      ? answerOf(bill, combine(chosen.map(({ ratio }) => ratio)), baseline.value)
      : [];
    output.replaceChildren(...(answer.length > 0 ? answer : ['Expected a number of at least 0.']));
  };

  offer(
    setting,
    speedups.map((one) => one.setting),
    speedups[0]?.setting ?? '',
  );
  form.addEventListener('input', update);
  form.addEventListener('submit', (event) => event.preventDefault());
  update();
}

/** Keeps what was chosen, where it is still on offer. */
function offer(
  select: HTMLSelectElement,
  values: readonly string[],
  usual: string,
  label = (value: string) => value,
): void {
  const names = [...new Set(values)];
  if (names.join('\n') === [...select.options].map(({ value }) => value).join('\n')) return;
  const before = select.value;
  select.replaceChildren(...names.map((name) => new Option(label(name), name)));
  select.value = names.includes(before) ? before : names.includes(usual) ? usual : (names[0] ?? '');
}

function answerOf(bill: Bill, ratio: Range, baseline: string): HTMLElement[] {
  const { saving, share, instances } = estimate(bill, ratio);
  const between = (span: Range, form: (value: number) => string) => range(span.least, span.most, form);
  const lines = [
    `From ${money(saving.least)} to ${money(saving.most)}: ${between(share, percent)} of the bill.`,
    `relay does ${times(ratio.median)} the work of ${baseline}; over rounds and workloads ${between(ratio, times)}.`,
  ];
  if (instances !== undefined)
    lines.push(`Instances needed: ${range(instances.least, instances.most, String)}, whole ones.`);
  return [
    paragraph('label', 'Saved per month'),
    paragraph('value', money(saving.median)),
    ...lines.map((line) => paragraph('detail', line)),
    ...(saving.least < 0 ? [paragraph('detail', 'Below zero: it would cost more.')] : []),
  ];
}

function paragraph(name: string, text: string): HTMLElement {
  const element = document.createElement('span');
  element.className = name;
  element.textContent = text;
  return element;
}
