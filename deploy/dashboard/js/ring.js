// The latest numbers, at most `size` of them. Allocates once.
export class Ring {
  constructor(size) {
    this.values = new Float64Array(size);
    this.length = 0;
    this.next = 0;
  }

  push(value) {
    this.values[this.next] = value;
    this.next = (this.next + 1) % this.values.length;
    this.length = Math.min(this.length + 1, this.values.length);
  }

  // The i-th oldest.
  at(i) {
    const first = this.next - this.length + this.values.length;
    return this.values[(first + i) % this.values.length];
  }

  sorted() {
    const kept = this.length < this.values.length ? this.values.subarray(0, this.length) : this.values;
    return Float64Array.from(kept).sort();
  }
}

// The smallest value that at least `share` of the sorted values do not exceed.
export function quantile(sorted, share) {
  return sorted.length ? sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)] : null;
}
