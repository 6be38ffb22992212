# The tests, one by one; the console says how each ended. Arguments are words.
failed=0
matching=0
while read -r name executable arguments; do
    cd @DIRECTORY@ || exit 1
    matching=$((matching + $("$executable" --list $arguments | grep -c ': test$')))
    CARGO_MANIFEST_DIR=@DIRECTORY@ "$executable" $arguments </dev/null 2>&1
    status=$?
    echo "@RESULT@ $name $status"
    [ $status = 0 ] || failed=1
done </tests
# A filter that is mistyped must not pass.
[ $matching != 0 ] || echo "@RESULT@ no-test-matches 1"
