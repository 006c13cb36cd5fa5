// As large as can be read: columns and size of letters together, so that all stations are on the screen.

const SMALLEST = 0.4; // of the usual size of letters
const LARGEST = 2.6;
const NARROWEST_REM = 21; // of a card: less, and its figures are cut off
const STEPS = 5; // of the search for a size

// Lay `grid` out for `count` cards; not `wanted`: as the style sheet does.
export function arrange(grid, count, wanted) {
  const root = document.documentElement;
  const scale = (value) => root.style.setProperty("--scale", value.toFixed(3));
  root.dataset.fit = String(wanted);
  grid.style.gridTemplateColumns = "";
  scale(1);
  if (!wanted || !count) return;
  const letter = parseFloat(getComputedStyle(root).fontSize);
  let best = { columns: Math.min(count, 2), size: SMALLEST };
  for (let columns = 1; columns <= Math.min(count, 12); columns += 1) {
    if (Math.ceil(count / Math.ceil(count / columns)) !== columns) continue; // fewer columns have as few rows
    const widest = window.innerWidth / (columns * NARROWEST_REM * letter);
    if (widest <= best.size) continue;
    grid.style.gridTemplateColumns = tracks(columns);
    const size = largest(best.size, Math.min(LARGEST, widest), scale);
    if (size > best.size) best = { columns, size };
  }
  grid.style.gridTemplateColumns = tracks(best.columns);
  scale(best.size);
}

export function overflows() {
  const root = document.documentElement;
  return root.scrollHeight > window.innerHeight || root.scrollWidth > window.innerWidth;
}

function tracks(columns) {
  return `repeat(${columns}, minmax(0, 1fr))`;
}

// The largest size that does not overflow; `low` where not even a little more does.
function largest(low, high, scale) {
  const fits = (size) => {
    scale(size);
    return !overflows();
  };
  if (!fits(low + 0.01)) return low;
  if (fits(high)) return high;
  let [good, bad] = [low, high];
  for (let step = 0; step < STEPS; step += 1) {
    const middle = (good + bad) / 2;
    if (fits(middle)) good = middle;
    else bad = middle;
  }
  return good;
}
