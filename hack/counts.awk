# Adds up the tests that cargo test, go test -v, node --test, the shell checks of this folder, or an earlier sum reported.
# Prints: PASSED FAILED
/^test result: / {
  for (i = 1; i <= NF; i++) {
    if ($i ~ /^passed/) passed += $(i - 1)
    if ($i ~ /^failed/) failed += $(i - 1)
  }
}
/^--- PASS: / { passed++ }
/^--- FAIL: / { failed++ }
/^ok   / { passed++ }
/^FAIL   / { failed++ }
/^# pass [0-9]+$/ { passed += $3 }
/^# fail [0-9]+$/ { failed += $3 }
/^[0-9]+ passed, [0-9]+ failed$/ { sum_passed = $1; sum_failed = $3; summed = 1 }
END {
  # A sum stands for all lines before it.
  if (summed) print sum_passed + 0, sum_failed + 0
  else print passed + 0, failed + 0
}
