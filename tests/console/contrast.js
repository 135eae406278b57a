// Contrast of pairs of custom properties, ink on ground, by WCAG 2.2.
(names) => {
  const style = getComputedStyle(document.documentElement);
  const rgb = (name) => {
    const probe = document.createElement("i");
    probe.style.color = style.getPropertyValue(name);
    document.body.append(probe);
    const parts = getComputedStyle(probe).color.match(/[\d.]+/g).slice(0, 3).map(Number);
    probe.remove();
    return parts.map((c) => c / 255).map((c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
  };
  const light = ([r, g, b]) => 0.2126 * r + 0.7152 * g + 0.0722 * b + 0.05;
  return names.map(([ink, ground]) => {
    const [a, b] = [light(rgb(ink)), light(rgb(ground))];
    return [ink, ground, Math.max(a, b) / Math.min(a, b)];
  });
}
