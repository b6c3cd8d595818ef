$( Classical propositional calculus after Lukasiewicz, in Polish notation: C p q reads "if p then q", N p "not p". $)

$[ implication.mm $]

$c N $.

wn $a wff N p $.

$( Contraposition. $)
3 $a |- C C N p N q C q p $.

$( Identity, as in the shortest condensed proof DD211. $)
I $p |- C p p $=
  wp wp wp wi wi wp wp wi wp wp wp wi wp wi wi wp wp wp wi wi wp wp wi wi wp wp wp wi wp 2 wp wp wp
  wi 1 D wp wp 1 D $.

${
  S.1 $e |- C p q $.
  S.2 $e |- C q r $.
  $( The syllogism. $)
  S $p |- C p r $= ( wi 2 1 D ) ABFACFABCFFABFACFFABCGBCFABCFFBCFAHEIIDI $.
$}

$( Duns Scotus: from what is false, anything. $)
X $p |- C N p C p q $= ( wn wi 1 3 S ) ACBCACDABDACBCEBAFG $.
