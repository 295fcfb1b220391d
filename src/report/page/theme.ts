/** Turns to the other theme than the one that is seen, and remembers. Until then the system's counts. */
export function wireTheme(button: HTMLButtonElement): void {
  const root = document.documentElement;
  const system = matchMedia('(prefers-color-scheme: dark)');
  const dark = () => (root.dataset['theme'] ?? (system.matches ? 'dark' : 'light')) === 'dark';
  const show = () => button.setAttribute('aria-pressed', String(dark()));
  button.addEventListener('click', () => {
    root.dataset['theme'] = dark() ? 'light' : 'dark';
    try {
      localStorage.setItem('baton-theme', root.dataset['theme']);
    } catch {
      // A page from a file may have no storage; then it is forgotten.
    }
    show();
  });
  system.addEventListener('change', show);
  show();
}
