// What all instruction sets share on top of their sixteen lanes (F16).

// e^x, relative error below 2e-7 for x in [-87, 88]; smaller x give a value below 2e-38, larger ones 2^127. NaN gives
// NaN. Cephes: x = n ln 2 + r, e^r by a polynomial of degree 6.
LANE_OP F16 exp(F16 x) {
  x = min(set1(88.0f), max(set1(-87.3f), x));  // the second operand wins where x is NaN
  const F16 n = nearest(mul(x, set1(1.44269504f)));
  const F16 r = fma(n, set1(2.12194440e-4f), fma(n, set1(-0.693359375f), x));
  F16 p = set1(1.9875691500e-4f);
  p = fma(p, r, set1(1.3981999507e-3f));
  p = fma(p, r, set1(8.3334519073e-3f));
  p = fma(p, r, set1(4.1665795894e-2f));
  p = fma(p, r, set1(1.6666665459e-1f));
  p = fma(p, r, set1(5.0000001201e-1f));
  p = fma(p, mul(r, r), add(r, set1(1)));
  return mul(p, power_of_two(n));
}
