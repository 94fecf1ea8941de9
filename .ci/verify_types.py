"""Let pyright measure how much of the public interface has known types; fail below the share that is promised."""

import json
import subprocess
import sys

PROMISED = 0.98

command = [sys.executable, "-m", "pyright", "--verifytypes", "minilm", "--ignoreexternal", "--outputjson"]
result = json.loads(subprocess.run(command, capture_output=True, text=True).stdout)
score = result["typeCompleteness"]["completenessScore"]
print(f"{score:.1%} of the public interface has known types")
if score < PROMISED:
    for symbol in result["typeCompleteness"]["symbols"]:
        for found in symbol["diagnostics"]:
            print(f"{symbol['name']}: {found['message']}")
    sys.exit(1)
